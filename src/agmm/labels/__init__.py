"""What the annotator gave: annotations of one image as seeds and candidates."""
