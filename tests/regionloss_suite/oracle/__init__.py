"""What counts as the same answer: comparison with the reference, element by element, within computed bounds."""
