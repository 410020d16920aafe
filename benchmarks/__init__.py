"""Speed and memory of the losses beside what people use instead; see README.md."""
