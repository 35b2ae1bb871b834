CREATE TABLE secrets (
  `id` VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the secret',
  `name` VARCHAR(255) NOT NULL COMMENT 'name under which machines refer to it',
  `version` BIGINT UNSIGNED NOT NULL COMMENT 'from 1',
  `fingerprint` VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'keyed: says nothing about the value',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_name (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='which secrets there are; values are sealed elsewhere'
