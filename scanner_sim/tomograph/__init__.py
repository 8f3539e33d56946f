"""The scanner: beam, projections, photons, reconstruction."""
