"""What may be digits in a picture: ink, the rules of the paper, parts, lines; as MNIST has them."""
