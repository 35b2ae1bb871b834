package broker

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"cloudengine/events"
)

// accounts declares the bus accounts. Streams live in CP alone, and no subject of a stream is exported: what the others publish
// can reach a service and nothing else, and a reply subject that they name is replaced on the way.
const accounts = `
accounts {
  CP {
    jetstream: enabled
    exports: [
      {service: "do.*.*.*",      accounts: [USERS]}
      {service: "read.*.*.*",    accounts: [USERS]}
      {service: "put.*.*",       accounts: [USERS]}
      {service: "console.*.*",   accounts: [USERS], response_type: stream}
      {service: "feedapi.CONSUMER.CREATE.FEED.>", accounts: [USERS]}
      {service: "feedapi.CONSUMER.INFO.FEED.*",   accounts: [USERS]}
      {service: "feedapi.CONSUMER.DELETE.FEED.*", accounts: [USERS]}
      {service: "feedapi.STREAM.INFO.FEED",       accounts: [USERS]}
      {service: "$JS.API.CONSUMER.MSG.NEXT.FEED.*", accounts: [USERS], response_type: stream}
      {service: "rep.*.*",       accounts: [MACHINES]}
      {service: "tel.>",         accounts: [MACHINES]}
      {service: "$JS.API.CONSUMER.INFO.DESIRED.*",     accounts: [MACHINES]}
      {service: "$JS.API.CONSUMER.MSG.NEXT.DESIRED.*", accounts: [MACHINES], response_type: stream}
      {service: "$JS.ACK.DESIRED.>",                   accounts: [MACHINES]}
    ]
    imports: [
      {service: {account: MACHINES, subject: "ask.*.*"}}
    ]
  }
  USERS {
    imports: [
      {service: {account: CP, subject: "do.*.*.*"}}
      {service: {account: CP, subject: "read.*.*.*"}}
      {service: {account: CP, subject: "put.*.*"}}
      {service: {account: CP, subject: "console.*.*"}}
      {service: {account: CP, subject: "feedapi.CONSUMER.CREATE.FEED.>"}, share: true}
      {service: {account: CP, subject: "feedapi.CONSUMER.INFO.FEED.*"}}
      {service: {account: CP, subject: "feedapi.CONSUMER.DELETE.FEED.*"}}
      {service: {account: CP, subject: "feedapi.STREAM.INFO.FEED"}}
      {service: {account: CP, subject: "$JS.API.CONSUMER.MSG.NEXT.FEED.*"}, to: "feedapi.CONSUMER.MSG.NEXT.FEED.*"}
    ]
  }
  MACHINES {
    exports: [
      {service: "ask.*.*", accounts: [CP], response_type: stream}
    ]
    imports: [
      {service: {account: CP, subject: "rep.*.*"}}
      {service: {account: CP, subject: "tel.>"}}
      {service: {account: CP, subject: "$JS.API.CONSUMER.INFO.DESIRED.*"},     to: "machineapi.CONSUMER.INFO.DESIRED.*"}
      {service: {account: CP, subject: "$JS.API.CONSUMER.MSG.NEXT.DESIRED.*"}, to: "machineapi.CONSUMER.MSG.NEXT.DESIRED.*"}
      {service: {account: CP, subject: "$JS.ACK.DESIRED.>"}}
    ]
  }
}
`

func allow(subjects ...string) *server.SubjectPermission {
	return &server.SubjectPermission{Allow: subjects}
}

// feedNext is where a user pulls from its consumer on FEED.
const feedNext = events.FeedAPIPrefix + ".CONSUMER.MSG.NEXT.FEED."

// userPermissions lets a user ask in its own name and read its own inbox. Nobody may pull from the control plane's own consumers
// on FEED, which are listed in own: messages would be late where they are due.
func userPermissions(u User, own []string) *server.Permissions {
	publish := allow("read."+u.Name+".*.*", "console."+u.Name+".*")
	if u.Role == events.RoleOperate || u.Role == events.RoleAdmin {
		publish.Allow = append(publish.Allow, "do."+u.Name+".*.*", "put."+u.Name+".*")
	}
	if u.Account == "" { // FEED tells of all accounts
		publish.Allow = append(publish.Allow, events.FeedAPIPrefix+".>")
		for _, name := range own {
			publish.Deny = append(publish.Deny, feedNext+name)
		}
	}
	return &server.Permissions{Publish: publish, Subscribe: allow(events.InboxPrefix(u.Name) + ".>")}
}

// machinePermissions lets a machine report about itself, read its own consumer of this boot, and answer the control plane.
func machinePermissions(m Machine) *server.Permissions {
	id, consumer := string(m.ID), events.DesiredConsumer(m.ID, m.Boot)
	return &server.Permissions{
		Publish: allow(
			"rep."+id+".*",
			"tel."+id+".>",
			events.MachineAPIPrefix+".CONSUMER.INFO.DESIRED."+consumer,
			events.MachineAPIPrefix+".CONSUMER.MSG.NEXT.DESIRED."+consumer,
			"$JS.ACK.DESIRED."+consumer+".>",
		),
		Subscribe: allow(events.InboxPrefix(id)+".>", "ask."+id+".*"),
		// Only the control plane can publish to ask.*, so nobody else can lift this for a subject of his choice.
		Response: &server.ResponsePermission{MaxMsgs: 4096, Expires: 10 * time.Minute},
	}
}

// enrolPermissions lets a machine that holds a served token ask to be enrolled, and nothing else.
func enrolPermissions(m events.MachineID) *server.Permissions {
	return &server.Permissions{
		Publish:   allow(events.ReportSubject(m, events.ReportEnrol)),
		Subscribe: allow(events.EnrolInboxPrefix(m) + ".>"),
	}
}
