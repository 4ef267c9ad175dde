"""What pieces take and are judged by: material, tools, energy, what goes into what, samples."""
