package main

// Names in the data directory.
const restoredFile = "restored.json" // a restore leaves it; the next start of the server opens a new term for it

// derivedFiles in the data directory can be made again from the log, or belong to a running server. A backup holds all else.
var derivedFiles = []string{"streams", "mariadb", "lock", endpointsFile, "mysql.dsn", "snapshots", "rack", restoredFile}
