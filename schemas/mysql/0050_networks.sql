CREATE TABLE networks (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the network',
  `name` VARCHAR(255) NOT NULL COMMENT 'unique in its account',
  `account` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'owner',
  `account_name` VARCHAR(255) NULL COMMENT 'name of the owner',
  `fabric` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'that it lies on',
  `fabric_name` VARCHAR(255) NOT NULL COMMENT 'name of that',
  `vni` INT NOT NULL COMMENT 'VXLAN network identifier',
  `mtu` INT NOT NULL COMMENT 'bytes that a packet of a guest can have',
  `subnets` INT NOT NULL COMMENT 'number of them',
  `nics` INT NOT NULL COMMENT 'number of NICs that are on it',
  `created_at` DATETIME(6) NOT NULL COMMENT 'UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_name (account, name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='internal networks of accounts'
