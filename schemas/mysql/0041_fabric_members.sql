CREATE TABLE fabric_members (
  `id` VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'fabric.machine',
  `fabric` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'the fabric',
  `fabric_name` VARCHAR(255) NOT NULL COMMENT 'its name',
  `machine` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'the machine',
  `machine_name` VARCHAR(255) NULL COMMENT 'its name',
  `mac` VARCHAR(17) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of its card there',
  `address` VARCHAR(15) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'IPv4, from the log',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_machine (machine)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='which machine is on which storage network'
