"""Values as the plant means them: engineering values, derived tags, scans by source time, run parameters."""
