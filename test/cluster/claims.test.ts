import { testClaims } from './claims.ts'

testClaims('flex')
