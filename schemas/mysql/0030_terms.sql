CREATE TABLE terms (
  `id` VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'number of the term, six digits',
  `cause` VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'created, restored (from a backup) or reopened (after the loss of the end of the log)',
  `opened_at` DATETIME(6) NOT NULL COMMENT 'UTC',
  `level` INT NOT NULL COMMENT 'of the log in this term: the highest that its events may have; it never falls',
  `settled` BOOLEAN NOT NULL COMMENT 'VMs may be started: nothing that a lost part of the log had granted has to be found out',
  `settled_at` DATETIME(6) NULL COMMENT 'UTC',
  `unreported` JSON NULL COMMENT 'ids of machines for whose silence an administrator vouched',
  `changed_by` BIGINT UNSIGNED NOT NULL COMMENT 'number of the decision that last changed the row',
  `changed_at` DATETIME(6) NOT NULL COMMENT 'time of that decision, UTC',
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='terms of the log: a new one begins with a restore'
