CREATE TABLE discovered (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'the 12 digits of the MAC address',
  `mac` VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the NIC that it asked with',
  `class` VARCHAR(255) NULL COMMENT 'DHCP vendor class; as all that follows, its own word',
  `serial` VARCHAR(255) NULL COMMENT 'serial number',
  `uuid` VARCHAR(255) NULL COMMENT 'SMBIOS system UUID',
  `manufacturer` VARCHAR(255) NULL COMMENT 'from SMBIOS',
  `product` VARCHAR(255) NULL COMMENT 'from SMBIOS',
  `found_at` DATETIME(6) NOT NULL COMMENT 'when it first asked, UTC',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id),
  KEY by_mac (mac)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='machines that asked for a boot and are not known; they are held until they are added or dropped'
