CREATE TABLE bootimages (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'version: the beginning of the digest of the manifest, 16 hexadecimal digits',
  `name` VARCHAR(255) NULL COMMENT 'what people call it; unique',
  `kernel` VARCHAR(255) NOT NULL COMMENT 'release of the control domain''s kernel',
  `size` BIGINT NOT NULL COMMENT 'bytes of all parts together',
  `packages` INT NOT NULL COMMENT 'how many Debian packages it is made of',
  `is_default` BOOLEAN NOT NULL COMMENT 'machines without an image of their own boot it',
  `manifest` JSON NOT NULL COMMENT 'versions and digests of all packages, sizes and digests of its files',
  `created_at` DATETIME(6) NOT NULL COMMENT 'when it was registered, UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_name (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='versions of the boot image that machines may be told to boot'
