"""Objectives, the Lightning task and the run folder."""
