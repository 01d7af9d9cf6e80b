"""From images, archives and list files to what training reads: LMDBs, means, class lists."""
