"""A damaged record: noticed, read as far as it can be, made anew, with every loss named."""
