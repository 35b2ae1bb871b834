CREATE TABLE accounts (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the account',
  `name` VARCHAR(255) NOT NULL COMMENT 'unique',
  `created_at` DATETIME(6) NOT NULL COMMENT 'UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_name (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='customers: the owners of names'
