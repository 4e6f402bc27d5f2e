"""Clusters on paper: objects for Kubernetes and files for Ray's launcher, from a plan."""
