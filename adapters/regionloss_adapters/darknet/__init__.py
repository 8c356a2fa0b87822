"""darknet itself as an adapter: the user's checkout, compiled and run in a child process."""
