"""Network descriptions that know no framework."""
