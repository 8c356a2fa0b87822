"""darknet itself as an adapter: the checkout of the user, compiled and run in a child process."""
