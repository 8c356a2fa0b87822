"""Questions put to an adapter, what came of each, and the verdicts that follow."""
