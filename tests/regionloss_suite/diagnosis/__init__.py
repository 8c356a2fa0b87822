"""From the deviating cases to the clause that explains them."""
