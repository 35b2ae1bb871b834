CREATE TABLE templates (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the template',
  `name` VARCHAR(255) NOT NULL COMMENT 'unique in its account',
  `account` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'owner; NULL: for every account',
  `account_name` VARCHAR(255) NULL COMMENT 'name of the owner',
  `type` VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'kernel',
  `kernel_sha256` VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'digest of the kernel',
  `kernel_size` BIGINT NOT NULL COMMENT 'bytes',
  `ramdisk_sha256` VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'digest of the ramdisk',
  `ramdisk_size` BIGINT NULL COMMENT 'bytes',
  `cmdline` MEDIUMTEXT NULL COMMENT 'kernel command line',
  `min_memory_mib` INT NOT NULL COMMENT 'least RAM of a guest, MiB',
  `created_at` DATETIME(6) NOT NULL COMMENT 'UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_account (account),
  KEY by_name (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='what guests are made from'
