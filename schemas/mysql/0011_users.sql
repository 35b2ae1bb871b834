CREATE TABLE users (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the user',
  `name` VARCHAR(255) NOT NULL COMMENT 'the actor in decisions; never given again',
  `role` VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'read, operate or admin',
  `account` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'sees and changes only what belongs to it; NULL: all accounts',
  `account_name` VARCHAR(255) NULL COMMENT 'name of the account',
  `public_key` VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'public nkey',
  `revoked` BOOLEAN NOT NULL COMMENT 'may not use the bus any more',
  `created_at` DATETIME(6) NOT NULL COMMENT 'UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_name (name),
  KEY by_account (account)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='who may use the bus'
