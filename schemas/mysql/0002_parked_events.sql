CREATE TABLE parked_events (
  `number` BIGINT UNSIGNED NOT NULL COMMENT 'of the decision',
  `idx` INT NOT NULL COMMENT 'of the event in it; -1: the decision itself',
  `kind` VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the object',
  `object` VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'id of the object: it and all its later events are parked',
  `type` VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'wire name of the event',
  `reason` MEDIUMTEXT NOT NULL COMMENT 'why it could not be applied',
  `first` BOOLEAN NOT NULL COMMENT 'this one is why the object is parked',
  `parked_at` DATETIME(6) NOT NULL COMMENT 'time of the decision, UTC',
  PRIMARY KEY (number, idx),
  KEY by_object (kind, object)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='events that could not be applied: their objects wait here in order, nothing is skipped'
