CREATE TABLE projection_checkpoint (
  `name` VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'readmodels',
  `seq` BIGINT UNSIGNED NOT NULL COMMENT 'number of the last decision that is applied',
  `term` BIGINT UNSIGNED NOT NULL COMMENT 'term of that decision',
  `intent` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'intent of that decision: tells one log from another',
  `applied_at` DATETIME(6) NULL COMMENT 'when it was applied, UTC',
  PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='how far the read models are; one row'
