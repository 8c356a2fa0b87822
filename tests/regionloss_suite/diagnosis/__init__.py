"""From the cases that depart to the clause that explains them."""
