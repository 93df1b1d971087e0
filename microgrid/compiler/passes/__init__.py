"""From a program of scalars to array programs: each pass is a function from one to the next."""
