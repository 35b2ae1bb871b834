package events

// Inbox prefixes bind replies to who asked: nobody may listen to another's. A client sets it with nats.CustomInboxPrefix.

// InboxPrefix is the inbox prefix of a user (by name) or an enrolled machine (by id).
func InboxPrefix(actor string) string { return "_INBOX_" + actor }

// EnrolInboxPrefix is the inbox prefix of a machine that is not enrolled yet.
func EnrolInboxPrefix(m MachineID) string { return "_INBOX_enrol_" + string(m) }

// EnrolUser is the bus user of a machine that has only its one-time token; the password is "<machine>.<token>".
const EnrolUser = "enrol"

// MachineAPIPrefix is the JetStream API prefix of enrolled machines: jetstream.NewWithAPIPrefix(nc, MachineAPIPrefix). It gives
// CONSUMER.INFO, CONSUMER.MSG.NEXT and acknowledgement for the machine's own consumer on DESIRED, and nothing else.
const MachineAPIPrefix = "machineapi"

// FeedAPIPrefix is the JetStream API prefix of users: jetstream.NewWithAPIPrefix(nc, FeedAPIPrefix). It gives ordered consumers on
// FEED to a user who belongs to no account, and nothing else. FEED tells of all accounts.
const FeedAPIPrefix = "feedapi"
