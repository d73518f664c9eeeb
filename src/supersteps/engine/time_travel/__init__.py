"""From any checkpoint: resume, fork, replay, migrate."""
