import { testClaims } from './claims.ts'

testClaims('csi')
