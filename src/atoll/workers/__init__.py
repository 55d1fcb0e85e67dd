"""Running Workers on workerd: their scripts, their projects, the configuration, the process."""
