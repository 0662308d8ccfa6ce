"""What makes int8 keep its accuracy: ranges, equalization, bias correction, codes, and the two quantizers."""
