"""Maps of sites into a shared space, the plans that train them, and the swaps they make possible."""
