package events

// ForAccounts gives what a user of one account may see of an event of an object that is the account's: nothing that tells of the
// platform or of others. The score table of a run grant names all hosts and what is free on them.
func ForAccounts(p Payload) Payload {
	if g, ok := p.(VMRunGranted); ok {
		g.Scores, g.Rest = nil, 0
		return g
	}
	return p
}
