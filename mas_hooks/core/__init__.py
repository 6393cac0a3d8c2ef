"""What every room stands on: errors, settings, records, sites, inputs; files are written whole or not at all."""
