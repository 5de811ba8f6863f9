"""Studies of accuracy: grids of small runs, their results, and the page that says what came out."""
