"""The page of the node, in a browser: where everything stands, and a person's acts upon it."""
