"""First seeds for the forms of label that have none of their own: tags and boxes."""
