CREATE TABLE pools (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the pool',
  `name` VARCHAR(255) NOT NULL COMMENT 'unique',
  `fabric` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'its fabric',
  `fabric_name` VARCHAR(255) NOT NULL COMMENT 'name of that',
  `redundancy` INT NOT NULL COMMENT 'copies of each extent',
  `extent_mib` INT NOT NULL COMMENT 'size of an extent',
  `arrays` INT NOT NULL COMMENT 'arrays in it',
  `size_mib` BIGINT NOT NULL COMMENT 'of its arrays, without copies',
  `free_mib` BIGINT NOT NULL COMMENT 'that belongs to no volume',
  `check_every_hours` INT NOT NULL COMMENT 'hours from the end of a check of an array to the next; 0: none is scheduled',
  `created_at` DATETIME(6) NOT NULL COMMENT 'UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_name (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='storage of one fabric with one redundancy'
