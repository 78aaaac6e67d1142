"""An image file and what is in it: opened, its pixels, its texts, its prompt; labelled and saved."""
