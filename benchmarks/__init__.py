"""Speed, side by side with PyTorch."""
