"""The patient: drawn from an atlas or taken from a real series, and how he moves."""
