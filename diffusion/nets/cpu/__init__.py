"""What is written out for CPUs: layers with their gradients, upsampling, random bits."""
