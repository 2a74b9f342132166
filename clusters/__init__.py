"""`cluster`: which users share a cluster-wide model, by how alike their subjects are."""
