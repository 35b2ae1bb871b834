CREATE TABLE dropped_events (
  `number` BIGINT UNSIGNED NOT NULL COMMENT 'of the decision',
  `idx` INT NOT NULL COMMENT 'of the event in it; -1: the decision itself',
  `kind` VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the object',
  `object` VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the object',
  `type` VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'wire name of the event',
  `error` MEDIUMTEXT NOT NULL COMMENT 'why it could not be applied',
  `reason` MEDIUMTEXT NOT NULL COMMENT 'why it was dropped, in the words of who did it',
  `dropped_by` VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'user',
  `dropped_at` DATETIME(6) NOT NULL COMMENT 'UTC',
  PRIMARY KEY (number, idx),
  KEY by_object (kind, object)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='parked events that a person gave up: the read models go on without them, also after a rebuild'
