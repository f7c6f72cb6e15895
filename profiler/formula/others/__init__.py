"""What others publish: one formula a module, each as its author gives it, with its source."""
