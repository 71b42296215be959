"""Functions whose calls can be jobs: tasks, their parameters, their hooks, and the running job that they see."""
