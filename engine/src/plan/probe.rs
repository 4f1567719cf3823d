//! Asks the system, read-only, what a plan foresees.
