CREATE TABLE servers (
  `id` VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'name of the server',
  `name` VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'the same',
  `release_name` VARCHAR(255) NOT NULL COMMENT 'what it runs',
  `level` INT NOT NULL COMMENT 'highest level of the log that it can read and write',
  `known_at` DATETIME(6) NOT NULL COMMENT 'when it first made itself known, UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_name (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='managing servers'
