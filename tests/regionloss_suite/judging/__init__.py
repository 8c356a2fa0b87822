"""Questions to an adapter, their outcomes, and the verdicts that follow."""
